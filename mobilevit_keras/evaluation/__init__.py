"""How good a model is, whatever its format."""

from mobilevit_keras.evaluation.accuracy import Evaluation, evaluate
from mobilevit_keras.evaluation.examples import draw_examples
from mobilevit_keras.evaluation.predictors import Predictor, open_predictor

__all__ = ["Evaluation", "Predictor", "draw_examples", "evaluate", "open_predictor"]

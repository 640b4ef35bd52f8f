"""How good a model is, whatever its format."""

from mobilevit_keras.evaluation.accuracy import Evaluation, evaluate
from mobilevit_keras.evaluation.predictors import Predictor, open_predictor

__all__ = ["Evaluation", "Predictor", "evaluate", "open_predictor"]

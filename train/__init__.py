"""`python -m train`: training, evaluation and their tables, wired from mobilevit_keras."""

"""What `fit` needs for the paper's recipe: optimizer, average of the weights, checkpoints, logs."""

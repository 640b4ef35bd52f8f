"""`python -m convert`: foreign weights in, TFLite, TF.js and the browser application out."""

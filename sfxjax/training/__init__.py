"""Training programs: `python -m train.dann` and the loop, the steps and the data they share."""

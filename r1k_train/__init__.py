"""Train on r1k with TRL: reads the columns of the dataset folder, never the builder's code."""

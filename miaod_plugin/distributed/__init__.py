"""Several processes for one training or pass: what they tell each other, and how they are started."""

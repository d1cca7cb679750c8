"""Active learning for object detection with a scikit-learn / modAL interface."""

"""A trained detector: the model with its weights, and everything needed to use it as trained."""

from bifpn_jax.trained.detector import Detector
from bifpn_jax.trained.evaluation import Evaluation, evaluate_detector
from bifpn_jax.trained.loading import load_detector

__all__ = ["Detector", "Evaluation", "evaluate_detector", "load_detector"]

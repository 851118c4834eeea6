"""ffaa: explainable face-forgery analysis with multimodal language models."""

__version__ = "0.1.0"

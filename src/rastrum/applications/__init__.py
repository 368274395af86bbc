"""What trained models are used for: anomaly scores, classification, autoencoding, and what one decision depends on."""

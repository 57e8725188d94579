"""Training of torch modules: what stages of recipes need. torch is imported when one of these modules is."""

"""What images show: boxes and masks, segmenters, exemplars, expressions, and where concepts lie."""

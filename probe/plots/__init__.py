"""The drawing language: styles, widths, image grids, strips and notes; nothing of one question."""

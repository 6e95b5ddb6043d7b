"""`probe label`: a local web page to mark objects, choose exemplars and play with units; needs the extra `[ui]`.

Nothing else in probe imports this package.
"""

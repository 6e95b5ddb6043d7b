"""Numbers with intervals, distances, features, neighbours, the linear SVM."""

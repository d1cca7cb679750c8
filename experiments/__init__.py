"""Experiments that compare training and query strategies over annotation budgets."""

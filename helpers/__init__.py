"""What a student's notebook imports: data, training, plotting, models and checks."""

__version__ = "0.2.0"

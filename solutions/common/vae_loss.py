def loss_function(x_hat, x, mu, logvar):
    """Binary cross-entropy plus KL divergence, in nats per image.

    Args:
        x_hat: reconstructed images (N, 1, 28, 28) in [0, 1].
        x: original images (N, 1, 28, 28).
        mu: means of the codes (N, Z).
        logvar: logarithms of their variances (N, Z).

    Returns:
        The mean over the batch, a tensor with one number.
    """
    # TODO: sum over pixels and dimensions, then the mean over the images.
    ### BEGIN SOLUTION
    bce = nn.functional.binary_cross_entropy(x_hat, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + kl) / len(x)
    ### END SOLUTION

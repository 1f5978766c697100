def train_epoch(model, loader, loss_function, optimizer, device):
    """Train for one epoch.

    Args:
        model: returns x_hat, mu and logvar for images.
        loader: gives images (N, C, h, w) and labels (N,); the labels are not needed.
        loss_function: the loss of (x_hat, x, mu, logvar).
        optimizer: updates the model's parameters.
        device: where the model is; move the images there.

    Returns:
        The mean loss over all images, a float.
    """
    model.train()
    total, n_images = 0.0, 0
    for images, _ in loader:
        images = images.to(device)
        # TODO: one step of training; add to total and n_images.
        ### BEGIN SOLUTION
        optimizer.zero_grad()
        x_hat, mu, logvar = model(images)
        loss = loss_function(x_hat, images, mu, logvar)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
        n_images += len(images)
        ### END SOLUTION
    return total / n_images

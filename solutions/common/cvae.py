class myVAE(nn.Module):
    """A fully connected variational autoencoder, with a condition if there is one.

    The condition follows the flattened image at the encoder, and the code at the decoder. Without
    one (conditional_vec_dim=0) the encoder takes images (N, 1, 28, 28) and the
    decoder codes (N, Z), as before.

    Args:
        input_dim: pixels in an image, 784.
        hidden_dim: width of the hidden layers, H_d.
        latent_dim: numbers in a code, Z.
        conditional_vec_dim: numbers in a condition, C; 0 for none.
    """

    def __init__(self, input_dim, hidden_dim, latent_dim, conditional_vec_dim=0):
        super().__init__()
        # TODO: self.encoder, an nn.Sequential: (N, 784 + C) -> (N, H_d)
        #       self.mu_layer and self.logvar_layer, nn.Linear: (N, H_d) -> (N, Z)
        #       self.decoder, an nn.Sequential: (N, Z + C) -> (N, 1, 28, 28)
        ### BEGIN SOLUTION
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(input_dim + conditional_vec_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
        )
        self.mu_layer = nn.Linear(hidden_dim, latent_dim)
        self.logvar_layer = nn.Linear(hidden_dim, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim + conditional_vec_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, input_dim),
            nn.Sigmoid(),
            nn.Unflatten(1, (1, 28, 28)),
        )
        ### END SOLUTION

    @staticmethod
    def reparameterize(mu, logvar):
        """Draw codes z (N, Z) from N(mu, exp(logvar)), so that gradients reach both."""
        # TODO: as in the last deliverable.
        ### BEGIN SOLUTION
        return mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        ### END SOLUTION

    def forward(self, x, c=None):
        """Encode, draw a code, decode.

        Args:
            x: images (N, 1, 28, 28).
            c: conditions (N, C), or None where C is 0.

        Returns:
            x_hat (N, 1, 28, 28), mu (N, Z) and logvar (N, Z).
        """
        # TODO: as before, with the condition after the image and after the code.
        ### BEGIN SOLUTION
        hidden = self.encoder(x if c is None else torch.cat([x.flatten(1), c], dim=1))
        mu, logvar = self.mu_layer(hidden), self.logvar_layer(hidden)
        z = self.reparameterize(mu, logvar)
        return self.decoder(z if c is None else torch.cat([z, c], dim=1)), mu, logvar
        ### END SOLUTION

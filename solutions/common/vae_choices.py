# TODO: set hidden_dim, latent_dim, batch_size, n_epochs (whole numbers) and learning_rate.
### BEGIN SOLUTION
hidden_dim = 400
latent_dim = 15
batch_size = 128
n_epochs = 10
learning_rate = 1e-3
### END SOLUTION

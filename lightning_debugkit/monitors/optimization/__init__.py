"""The optimizer's steps: how far they go, at which rate, at which loss scale."""

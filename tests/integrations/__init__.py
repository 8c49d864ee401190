"""The pipelines of integrations/, run as their hosts run them."""

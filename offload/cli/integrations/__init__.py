"""Commands of integrations: the third parties that functions call."""

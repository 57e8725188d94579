"""Networks with inputs that show what compression does to them: of the zoo, of public packages, trained here."""

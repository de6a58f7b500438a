"""The Docker builder: RUN steps on a base, for those who need system packages."""

from chassis import settings


class Settings(settings.Settings):
    uses_database = uses_secret_key = False

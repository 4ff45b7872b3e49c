from chassis import settings


class Settings(settings.Settings):
    uses_secret_key = False

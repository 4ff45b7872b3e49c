from dataclasses import dataclass

import pytest

from chassis.settings import Address, Settings, SettingsError, read_dotenv, setting

GOOD = {"APP_ENV": "test", "SECRET_KEY": "a-key", "DATABASE_HOST": "db"}
PRODUCTION = {"SECRET_KEY": "k" * 32, "DATABASE_HOST": "db", "DATABASE_PASSWORD": "Zx9-w2"}


@dataclass(frozen=True, kw_only=True)
class Shop(Settings):
    page_size: int = setting(20, "Rows on a page.", minimum=1, maximum=100)
    beta: bool = setting(False, "New things.")


def errors(**changes: str) -> str:
    with pytest.raises(SettingsError) as error:
        Shop.load({**GOOD, **changes})
    return str(error.value)


def test_a_service_adds_its_own_settings_in_one_line_each():
    shop = Shop.load({**GOOD, "PAGE_SIZE": "5", "BETA": "yes", "DRAIN_DELAY": "0.5"})
    assert (shop.page_size, shop.beta, shop.drain_delay) == (5, True, 0.5)
    assert Shop.load(GOOD).page_size == 20


def test_every_error_is_reported_at_once():
    text = errors(PAGE_SIZE="many", BETA="maybe", PORT="99999", SECRET_KEY="", LOG_LEVEL="LOUD")
    assert text.startswith("5 settings are wrong: ")
    assert "PAGE_SIZE must be a whole number, not 'many'." in text
    assert "BETA must be true or false, not 'maybe'." in text
    assert "PORT must be a whole number from 1 to 65535, not '99999'." in text
    assert "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'." in text
    assert "SECRET_KEY is not set. Run `make init`, or set SECRET_KEY_FILE." in text
    assert "\n" not in text


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e9"])
def test_a_number_out_of_range_is_a_error(value):
    assert "DATABASE_WAIT must be a number from 0 to 3600" in errors(DATABASE_WAIT=value)


def test_a_secret_comes_from_a_file_and_its_last_line_break_does_not_count(tmp_path):
    path = tmp_path / "secret_key"
    path.write_text("from-a-file\r\n")
    environ = {"APP_ENV": "test", "DATABASE_HOST": "db", "SECRET_KEY_FILE": str(path)}
    assert Shop.load(environ).secret_key == "from-a-file"


def test_a_secret_set_in_both_ways_is_an_error(tmp_path):
    text = errors(SECRET_KEY_FILE=str(tmp_path / "x"))
    assert text == "1 setting is wrong: SECRET_KEY and SECRET_KEY_FILE are both set: remove one of them."


def test_a_secret_file_that_is_missing_or_empty_is_named(tmp_path):
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.write_text("\n")
    assert f"names {missing}: No such file or directory." in errors(SECRET_KEY="", SECRET_KEY_FILE=str(missing))
    assert f"DATABASE_PASSWORD is empty: DATABASE_PASSWORD_FILE names {empty}" in errors(
        DATABASE_PASSWORD_FILE=str(empty)
    )


def test_no_secret_is_ever_echoed():
    url = "postgresql://me:hunter2@db:notaport/x"
    text = errors(DATABASE_URL=url, DATABASE_HOST="", SECRET_KEY="")
    assert "DATABASE_URL" in text
    assert "hunter2" not in text
    shop = Shop.load({**GOOD, "DATABASE_PASSWORD": "hunter2"})
    assert "hunter2" not in repr(shop) + repr(shop.database) + str(shop.database)


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_PASSWORD"])
@pytest.mark.parametrize("value", ["change-me-please-change-me-please!!", "dev-only-password-dev-only-password"])
def test_production_refuses_placeholders(name, value):
    Shop.load(PRODUCTION)
    with pytest.raises(SettingsError, match=f"{name} is a placeholder"):
        Shop.load({**PRODUCTION, name: value})
    Shop.load({**PRODUCTION, name: value, "APP_ENV": "development"})


def test_production_refuses_a_placeholder_inside_the_database_url():
    url = "postgresql://web:dev-only-password@db/web"
    with pytest.raises(SettingsError, match="DATABASE_PASSWORD is a placeholder"):
        Shop.load({"SECRET_KEY": "k" * 32, "DATABASE_URL": url})


def test_production_refuses_a_short_secret_key():
    with pytest.raises(SettingsError, match="shorter than 32 characters"):
        Shop.load({**PRODUCTION, "SECRET_KEY": "short"})


def test_the_database_is_needed_once_by_url_or_by_parts(monkeypatch):
    monkeypatch.setenv("SERVICE", "shop")
    assert "DATABASE_URL is not set, and neither is DATABASE_HOST" in errors(DATABASE_HOST="")
    assert Shop.load(GOOD).database == Address("db", 5432, "shop", "shop", "")
    assert (
        Shop.load({**GOOD, "DATABASE_URL": "postgresql://u:p@there/x"}).database.url == "postgresql://u:p@there:5432/x"
    )


def test_what_a_database_url_lacks_comes_from_the_parts(tmp_path):
    (tmp_path / "password").write_text("from-a-file\n")
    parts = {"DATABASE_NAME": "shop", "DATABASE_USER": "owner", "DATABASE_PASSWORD_FILE": str(tmp_path / "password")}
    shop = Shop.load({**GOOD, **parts, "DATABASE_URL": "postgresql://there/?sslmode=verify-full&options="})
    options = (("sslmode", "verify-full"), ("options", ""))
    assert shop.database == Address("there", 5432, "shop", "owner", "from-a-file", options)
    both = errors(**parts, DATABASE_URL="postgresql://u:p@there/x")
    assert "DATABASE_URL has a password, and DATABASE_PASSWORD_FILE is set: remove one of them" in both


def test_a_database_url_may_name_several_hosts():
    address = Address.from_url("postgresql://u:p%2C@a.example,b.example:6432,[::1]:7/x?target_session_attrs=read-write")
    assert address.hosts == (("a.example", 5432), ("b.example", 6432), ("::1", 7))
    assert address.password == "p,"
    assert Address.from_url(address.url) == address
    assert str(address) == "u@a.example:5432,b.example:6432,[::1]:7/x"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_database_url_is_understood_and_given_back_for_libpq(scheme):
    address = Address.from_url(f"{scheme}://m%40x:p%2Fw@db.example:6543/shop?sslmode=require")
    assert address == Address("db.example", 6543, "shop", "m@x", "p/w", (("sslmode", "require"),))
    assert address.url == "postgresql://m%40x:p%2Fw@db.example:6543/shop?sslmode=require"
    assert Address.from_url("postgresql://u:p@[::1]/x").url == "postgresql://u:p@[::1]:5432/x"


@pytest.mark.parametrize("url", ["mysql://u:p@db/x", "db", "postgresql://", "postgresql://db", "postgresql://[::1/x"])
def test_a_malformed_database_url_says_what_it_must_be(url):
    assert "DATABASE_URL must" in (text := errors(DATABASE_URL=url, DATABASE_HOST="")) or "has no usable" in text


def test_dotenv_is_found_upward_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("PAGE_SIZE=7\nBETA=true\nSECRET_KEY=k\nDATABASE_HOST=db\nAPP_ENV=test\n")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    monkeypatch.setattr("chassis.settings.read_dotenv", read_dotenv)
    monkeypatch.setenv("PAGE_SIZE", "9")
    shop = Shop.load()
    assert (shop.page_size, shop.beta) == (9, True)


def test_a_service_without_database_and_sessions_needs_settings_for_neither():
    class Job(Settings):
        uses_database = False
        uses_secret_key = False

    assert Job.load({}).production
    with pytest.raises(SettingsError, match="SECRET_KEY is not set"):
        Settings.load({"DATABASE_HOST": "db"})

"""ApiSettings: what one API replica reads from the environment."""

from __future__ import annotations

from dataclasses import dataclass

from shared import settings
from shared.errors import SettingsError
from shared.model.model_name import DEFAULT_MODEL, model_name_of
from shared.settings import Environment


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The settings of one replica. Times in seconds."""

    redis_url: str
    broker_url: str
    #: The configured model. Others are known once a worker has registered them.
    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    admin_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    public_pages: tuple[str, ...] = ("metrics", "docs")
    strict_parameters: bool = False
    ping_s: float = 15.0
    first_output_wait_s: float = 10.0
    body_limit: int = 4_194_304
    receipt_s: float = 15.0
    max_readers: int = 1024
    max_open_jobs: int = 100_000
    max_owner_mb: int = 1024
    max_stored_mb: int = 4096
    reader_grace_s: float = 300.0
    retention_s: float = 86_400.0
    lease_s: float = 3.0
    drain_s: float = 5.0
    log_level: str = "info"
    log_format: str = "auto"

    @classmethod
    def from_environment(cls, environment: Environment) -> ApiSettings:
        """Raises SettingsError with the variable's name."""
        redis_url = environment.read(settings.REDIS_URL)
        if not redis_url:
            raise SettingsError("BATON_REDIS_URL is not set; `baton up` sets it to its own Redis")
        host, api_keys = environment.read(settings.HOST), environment.read(settings.API_KEYS)
        admin_keys = environment.read(settings.ADMIN_KEYS)
        if not api_keys and not admin_keys and not settings.is_loopback(host):
            raise SettingsError(f"BATON_API_KEYS is empty, which BATON_HOST={host} does not allow")
        return cls(
            redis_url=redis_url,
            broker_url=environment.read(settings.BROKER_URL) or redis_url,
            model=_model_name(environment),
            host=host,
            port=environment.read(settings.PORT),
            api_keys=api_keys,
            admin_keys=admin_keys,
            cors_origins=environment.read(settings.CORS_ORIGINS),
            public_pages=environment.read(settings.PUBLIC_PAGES),
            strict_parameters=environment.read(settings.STRICT_PARAMETERS),
            ping_s=environment.read(settings.PING_S),
            first_output_wait_s=environment.read(settings.FIRST_OUTPUT_WAIT_S),
            body_limit=environment.read(settings.BODY_LIMIT),
            receipt_s=environment.read(settings.RECEIPT_S),
            max_readers=environment.read(settings.MAX_READERS),
            max_open_jobs=environment.read(settings.MAX_OPEN_JOBS),
            max_owner_mb=environment.read(settings.MAX_OWNER_MB),
            max_stored_mb=environment.read(settings.MAX_STORED_MB),
            reader_grace_s=environment.read(settings.READER_GRACE_S),
            retention_s=environment.read(settings.RETENTION_S),
            lease_s=environment.read(settings.LEASE_S),
            drain_s=environment.read(settings.DRAIN_S),
            log_level=environment.read(settings.LOG_LEVEL),
            log_format=environment.read(settings.LOG_FORMAT),
        )


def _model_name(environment: Environment) -> str:
    given = environment.read(settings.MODEL_NAME)
    return given or model_name_of(environment.read(settings.MODEL)) or DEFAULT_MODEL

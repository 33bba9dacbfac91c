# One image for every role: `docker run worker-sync capture shop`, `... worker`, `... beat`, `... exporter`, `... flower`.
#
#   docker build -t worker-sync .                   what runs the roles: no shell, no package manager, no root
#   docker build -t worker-sync:full --target full  with a shell and the database client programs
#
# The configuration is /etc/worker-sync/worker-sync.yaml. Writable are /var/lib/worker-sync (state, spill) and /tmp; the
# root may be read-only.
ARG DEBIAN=debian:trixie-slim

FROM ${DEBIAN} AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates python3 python3-venv binutils
WORKDIR /build
COPY requirements-build.lock requirements-runtime.lock ./
RUN python3 -m venv /tools && /tools/bin/pip install -q --no-deps --require-hashes -r requirements-build.lock
RUN python3 -m venv --without-pip /opt/worker-sync && \
    /tools/bin/pip --python /opt/worker-sync install -q --no-deps --no-compile --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY worker_sync worker_sync
COPY tasks tasks
COPY connectors connectors
COPY beat_schedule beat_schedule
RUN /tools/bin/pip wheel -q --no-deps --no-build-isolation --no-index --wheel-dir /wheel . && \
    /tools/bin/pip --python /opt/worker-sync install -q --no-deps --no-compile --no-index /wheel/*.whl
# What a container never reads: debugging symbols of the libraries, tests, sources of C extensions, and what Amazon's library
# knows of services other than those that keep checkpoints, hold keys and give credentials.
RUN cd /opt/worker-sync/lib/python3*/site-packages && \
    find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name kms ! -name sts ! -name sso ! -name sso-oidc \
        ! -name signin -exec rm -rf {} + && \
    find . -type d -name tests -prune -exec rm -rf {} + && \
    find . -name '*.pyx' -delete -o -name '*.pxd' -delete -o -name '*.c' -delete -o -name '*.h' -delete && \
    find . -name '*.so' -exec strip --strip-debug {} + && \
    /opt/worker-sync/bin/python -m compileall -q -j 2 --invalidation-mode unchecked-hash .

# The files of these packages alone make the root.
FROM build AS root
ARG PACKAGES="libc6 libgcc-s1 libstdc++6 zlib1g libbz2-1.0 liblzma5 libzstd1 libffi8 libexpat1 libssl3t64 libsqlite3-0 \
    libuuid1 libpython3.13-minimal libpython3.13-stdlib python3.13-minimal python3.13 tzdata netbase media-types"
WORKDIR /packages
RUN apt-get download -qq ${PACKAGES} && \
    mkdir -p /root-files/usr/bin /root-files/usr/lib /root-files/usr/lib64 /root-files/var/lib/dpkg/status.d && \
    ln -s usr/bin usr/lib usr/lib64 /root-files/ && \
    for file in *.deb; do \
        dpkg-deb --fsys-tarfile "$file" | tar -x --keep-directory-symlink -C /root-files && \
        dpkg-deb --field "$file" >"/root-files/var/lib/dpkg/status.d/${file%%_*}" || exit 1; \
    done
WORKDIR /root-files
# Modules whose libraries are left out, programs that nothing here starts, and papers but for licences.
RUN rm -rf usr/share/man usr/share/locale usr/share/lintian usr/share/applications usr/share/pixmaps usr/share/gdb \
        usr/sbin usr/lib/*/gconv usr/bin/pdb* usr/bin/pydoc* usr/bin/pygettext* && \
    find usr/share/doc -type f ! -name copyright -delete && \
    cd usr/lib/python3.13 && \
    rm -rf lib-dynload/readline.* lib-dynload/_curses* lib-dynload/_dbm.* pydoc_data ensurepip idlelib turtledemo && \
    /opt/worker-sync/bin/python -m compileall -q -j 2 --invalidation-mode unchecked-hash .
RUN ln -s python3.13 usr/bin/python3 && \
    mkdir -p etc/ssl/certs etc/worker-sync tmp var/lib/worker-sync && \
    cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ && \
    printf '%s\n' root:x:0:0:root:/:/none worker-sync:x:10001:10001::/var/lib/worker-sync:/none >etc/passwd && \
    printf '%s\n' root:x:0: worker-sync:x:10001: >etc/group && \
    chmod 1777 tmp && chown 10001:10001 var/lib/worker-sync && \
    cp -a /opt opt
# Whether anything that the roles need is missing.
RUN chroot . /opt/worker-sync/bin/worker-sync --version && \
    chroot . /opt/worker-sync/bin/python -c "import tasks.app, flower, sqlite3, ssl; \
        import connectors.mongodb.sink, connectors.mysql.sink, connectors.postgres.sink, worker_sync.tracing.recorder; \
        from botocore.session import get_session; \
        [get_session().create_client(name, region_name='eu-central-1') for name in ('s3', 'kms', 'sts', 'sso', 'sso-oidc')]"
# The same sources and packages make the same bytes, whenever that is.
ARG SOURCE_DATE_EPOCH=0
RUN find . -newermt "@${SOURCE_DATE_EPOCH}" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM scratch AS run
COPY --from=root /root-files /
ENV PATH=/opt/worker-sync/bin:/usr/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    WORKER_SYNC_CONFIG=/etc/worker-sync/worker-sync.yaml
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Worker-Sync" \
      org.opencontainers.image.description="Keeps PostgreSQL, MySQL/MariaDB and MongoDB in step, and proves what happened to the data" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /var/lib/worker-sync
USER 10001:10001
VOLUME /var/lib/worker-sync
EXPOSE 9808 5555
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["worker-sync", "probe"]
ENTRYPOINT ["worker-sync"]
CMD ["--help"]

FROM ${DEBIAN} AS full
RUN apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends ca-certificates python3 postgresql-client mariadb-client && \
    rm -rf /var/lib/apt/lists/* && useradd --uid 10001 --home-dir /var/lib/worker-sync --create-home worker-sync
COPY --from=root /opt/worker-sync /opt/worker-sync
ENV PATH=/opt/worker-sync/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WORKER_SYNC_CONFIG=/etc/worker-sync/worker-sync.yaml
WORKDIR /var/lib/worker-sync
USER 10001:10001
VOLUME /var/lib/worker-sync
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["worker-sync", "probe"]
ENTRYPOINT ["worker-sync"]
CMD ["--help"]

# What `docker build` makes when no target is named.
FROM run

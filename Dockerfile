# The image of vqmon, from the wheel that `make wheel` writes: make image, or docker build --target vqmon --tag vqmon:0.1.0 .
# Tags are pinned; pin digests too where you build for production: docker buildx imagetools inspect IMAGE shows them.
FROM docker.io/library/python:3.11.14-slim-bookworm AS build
WORKDIR /src
COPY packaging/environment packaging/environment
COPY requirements/run.txt requirements/run.txt
COPY dist/vqmon-*.whl dist/
RUN packaging/environment /usr/local/bin/python3 pip requirements/run.txt "$(echo dist/vqmon-*.whl)" /opt/vqmon

FROM docker.io/library/python:3.11.14-slim-bookworm AS vqmon
COPY --from=build /opt/vqmon /opt/vqmon
RUN ln -s /opt/vqmon/bin/vqmon /usr/local/bin/vqmon \
    && rm -rf /usr/local/lib/python3.11/site-packages/pip* /usr/local/bin/pip* \
    && install -d -o 10001 -g 10001 /var/lib/vqmon
# Probes come from outside the container, so ports listen on every address. All other settings: /etc/vqmon/vqmon.toml and VQMON_SECTION__KEY.
ENV VQMON_DAEMON__HEALTH_HOST=0.0.0.0 \
    VQMON_DAEMON__HEALTH_PORT=9464 \
    VQMON_WEB__HOST=0.0.0.0 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/vqmon
VOLUME /var/lib/vqmon
EXPOSE 8080 9464
ENTRYPOINT ["vqmon"]
CMD ["run"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/opt/vqmon/bin/python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9464/readyz', timeout=4)"]

# The packager of compose.yaml: ffmpeg and photos for a live stream of two arms.
FROM build AS build-demo
COPY requirements/demo.txt requirements/demo.txt
RUN packaging/environment /usr/local/bin/python3 pip requirements/demo.txt "$(echo dist/vqmon-*.whl)" /opt/vqmon-demo

FROM vqmon AS demo
COPY --from=build-demo /opt/vqmon-demo /opt/vqmon-demo
EXPOSE 8000
ENTRYPOINT ["/opt/vqmon-demo/bin/python3", "-m", "pipelines.demo.arms"]
CMD []
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["/opt/vqmon-demo/bin/python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/720p-v1.m3u8', timeout=4)"]

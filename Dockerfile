# The app on a CPU. Untested: there was no Docker where this was written.
# docker build -t corrsteer . && docker run --rm --network host -v corrsteer:/corrsteer/cache corrsteer
# The app listens on localhost alone, so the container shares the host's network (Linux).
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends make git && rm -rf /var/lib/apt/lists/*
WORKDIR /corrsteer
COPY . .
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN make setup
CMD ["make", "app"]

# The environment of the lock file on Debian.
#   docker build --tag cfx . && docker run --name cfx cfx        runs `make run`
#   docker cp cfx:/home/cfx/project/artifacts/report report      copies the report of that run
#   docker run --rm cfx make test                                runs the tests
FROM python:3.12-slim-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home cfx
USER cfx
WORKDIR /home/cfx/project
# a change of the source does not install the packages again
COPY --chown=cfx Makefile requirements.lock ./
RUN make environment
COPY --chown=cfx . .
# make compares the times: the copied lock file is newer than the environment
RUN touch .venv/.complete
CMD ["make", "run"]

# A machine whose package manager is dnf or zypper (one image each: their Debian packages exclude one another), made of
# Debian's packages. rpm's database is empty: what the toolkit's packages need, they bring or rpm is told about.
ARG BASE
FROM ${BASE} AS node
ARG PACKAGES="dnf python3-dnf dnf-plugins-core createrepo-c"
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
      rpm gnupg procps ${PACKAGES} >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb

# SPDX-License-Identifier: GPL-2.0-or-later
# make install DESTDIR=...: programs, units, man pages, completion, an example configuration. An existing
# configuration is never overwritten.

PREFIX ?= /usr
SBINDIR ?= $(PREFIX)/sbin
BINDIR ?= $(PREFIX)/bin
SYSCONFDIR ?= /etc
UNITDIR ?= /lib/systemd/system
UDEVDIR ?= /lib/udev/rules.d
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/glidefs
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
INSTALL ?= install

MAN_PAGES := $(call src,Documentation/man/*.[158])

.PHONY: install uninstall
install: $(PROGS)
	$(say) INSTALL '$(or $(DESTDIR),/)'
	$(Q)$(INSTALL) -D -m 755 $(B)/glidefsd '$(DESTDIR)$(SBINDIR)/glidefsd'
	$(Q)$(INSTALL) -D -m 755 $(B)/glidefs '$(DESTDIR)$(BINDIR)/glidefs'
	$(Q)$(INSTALL) -D -m 755 $(B)/gfs-trace '$(DESTDIR)$(BINDIR)/gfs-trace'
	$(Q)$(INSTALL) -D -m 644 packaging/glidefsd.service '$(DESTDIR)$(UNITDIR)/glidefsd.service'
	$(Q)sed -i 's,/usr/sbin/glidefsd,$(SBINDIR)/glidefsd,' '$(DESTDIR)$(UNITDIR)/glidefsd.service'
	$(Q)for rule in udev/*.rules; do \
		[ ! -e "$$rule" ] || $(INSTALL) -D -m 644 -t '$(DESTDIR)$(UDEVDIR)' "$$rule"; done
	$(Q)$(INSTALL) -D -m 644 packaging/glidefs.bash '$(DESTDIR)$(COMPLETIONDIR)/glidefs'
	$(Q)$(INSTALL) -D -m 644 packaging/gfs-trace.bash '$(DESTDIR)$(COMPLETIONDIR)/gfs-trace'
	$(Q)$(INSTALL) -D -m 644 -t '$(DESTDIR)$(DOCDIR)' Documentation/gfs-trace.schema.json \
		Documentation/openapi.json packaging/prometheus/glidefs.rules.yml
	$(Q)$(INSTALL) -D -m 644 packaging/glidefsd.conf '$(DESTDIR)$(DOCDIR)/examples/glidefsd.conf'
	$(Q)[ -e '$(DESTDIR)$(SYSCONFDIR)/glidefs/glidefsd.conf' ] || \
		$(INSTALL) -D -m 600 packaging/glidefsd.conf '$(DESTDIR)$(SYSCONFDIR)/glidefs/glidefsd.conf'
	$(Q)for page in $(MAN_PAGES); do \
		$(INSTALL) -D -m 644 -t '$(DESTDIR)$(MANDIR)/man'"$${page##*.}" "$$page"; done

# Configuration, state and cache stay.
uninstall:
	$(Q)rm -f '$(DESTDIR)$(SBINDIR)/glidefsd' '$(DESTDIR)$(BINDIR)/glidefs' \
		'$(DESTDIR)$(BINDIR)/gfs-trace' '$(DESTDIR)$(COMPLETIONDIR)/gfs-trace' \
		'$(DESTDIR)$(DOCDIR)/gfs-trace.schema.json' '$(DESTDIR)$(DOCDIR)/openapi.json' \
		'$(DESTDIR)$(DOCDIR)/glidefs.rules.yml' \
		'$(DESTDIR)$(UNITDIR)/glidefsd.service' '$(DESTDIR)$(COMPLETIONDIR)/glidefs' \
		'$(DESTDIR)$(DOCDIR)/examples/glidefsd.conf' \
		$(foreach p,$(MAN_PAGES),'$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(p)))/$(notdir $(p))') \
		$(foreach r,$(call src,udev/*.rules),'$(DESTDIR)$(UDEVDIR)/$(notdir $(r))')

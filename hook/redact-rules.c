/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * redact-rules - the table of what is blanked. virtspool-hook(8) lists it, and a test compares the
 * two.
 *
 * A new word must also pass two quick looks in redact.c: candidates() and `triggers`, which decide
 * whether a document is read tag by tag, and may_be_secret(), which looks at the letters of a name.
 * The unit test fails for a word that does not pass.
 */
#include <stddef.h>

#include "hook/redact.h"

static const struct redact_rule secrets[] = {
	{REDACT_CONTAINS, "passw"},
	{REDACT_CONTAINS, "passphrase"},
	{REDACT_CONTAINS, "passcode"},
	{REDACT_ENDS, "pass"},
	{REDACT_CONTAINS, "pwd"},
	{REDACT_ENDS, "pw"},
	{REDACT_ENDS, "psk"},
	{REDACT_CONTAINS, "secret"},
	{REDACT_CONTAINS, "token"},
	{REDACT_CONTAINS, "apikey"},
	{REDACT_CONTAINS, "accesskey"},
	{REDACT_CONTAINS, "privatekey"},
	{REDACT_CONTAINS, "privkey"},
	{REDACT_CONTAINS, "sharedkey"},
	{REDACT_CONTAINS, "encryptionkey"},
	{REDACT_CONTAINS, "credential"},
	{REDACT_CONTAINS, "setcookie"},
	{REDACT_IS, "cookie"},
	{REDACT_CONTAINS, "authorization"},
	{REDACT_IS, "bearer"},
	{REDACT_IS, "sig"},
	{REDACT_CONTAINS, "signature"},
	{REDACT_CONTAINS, "userdata"},
	{REDACT_CONTAINS, "vendordata"},
	{REDACT_CONTAINS, "cloudinit"},
	{REDACT_CONTAINS, "cloudconfig"},
	{REDACT_CONTAINS, "ignition"},
	{REDACT_CONTAINS, "sysprep"},
	{REDACT_CONTAINS, "payload"},
	{REDACT_IS, "query"},
	{REDACT_IS, ""},
};

static const struct redact_rule elements[] = {
	{REDACT_IS, "arg"},
	{REDACT_IS, "env"},
	{REDACT_IS, "initarg"},
	{REDACT_IS, "initenv"},
	{REDACT_IS, "option"},
	{REDACT_IS, "cmdline"},
	{REDACT_IS, "bootloaderargs"},
	{REDACT_IS, "dhcert"},
	{REDACT_IS, "session"},
	{REDACT_IS, "idblock"},
	{REDACT_IS, "idauth"},
	{REDACT_IS, "hostdata"},
	{REDACT_IS, ""},
};

static const struct redact_rule free_names[] = {
	{REDACT_ENDS, "key"},
	{REDACT_ENDS, "keys"},
	{REDACT_CONTAINS, "keytab"},
	{REDACT_CONTAINS, "pw"},
	{REDACT_IS, "auth"},
	{REDACT_CONTAINS, "creds"},
	{REDACT_CONTAINS, "hmac"},
	{REDACT_CONTAINS, "jwt"},
	{REDACT_CONTAINS, "otp"},
	{REDACT_ENDS, "pem"},
	{REDACT_IS, "pin"},
	{REDACT_ENDS, "pincode"},
	{REDACT_CONTAINS, "sessionid"},
	{REDACT_CONTAINS, "connectionstring"},
	{REDACT_CONTAINS, "kubeconfig"},
	{REDACT_CONTAINS, "customdata"},
	{REDACT_CONTAINS, "kickstart"},
	{REDACT_CONTAINS, "preseed"},
	{REDACT_CONTAINS, "unattend"},
	{REDACT_CONTAINS, "autoinstall"},
	{REDACT_CONTAINS, "startupscript"},
	{REDACT_CONTAINS, "writefiles"},
	{REDACT_CONTAINS, "injectedfiles"},
	{REDACT_CONTAINS, "runcmd"},
	{REDACT_CONTAINS, "bootcmd"},
	{REDACT_IS, ""},
};

static const char *const kept[] = {"name", "key",	"id",	   "type",   "usage",
				   "uuid", "ephemeral", "private", "format", NULL};
static const char *const naming[] = {"name", "key", "id", "property", "field", "variable", NULL};
static const char *const entries[] = {"vendor",	 "version",  "date", "release", "manufacturer",
				      "product", "serial",   "uuid", "sku",	"family",
				      "asset",	 "location", NULL};
static const char *const free_texts[] = {"metadata", "description", "title", NULL};
static const char *const beginnings[] = {
	"#cloud-",
	"#!",
	"#include",
	"#part-handler",
	"#ps1",
	"Content-Type:",
	"MIME-Version:",
	"-----BEGIN",
	"I2Nsb3VkL",
	"IyEv",
	"I2luY2x1ZGU",
	"Q29udGVudC1UeXBl",
	"TUlNRS1WZXJzaW9u",
	"LS0tLS1CRUdJT",
	"H4sI",
	"eyJ",
	"ewog",
	"$1$",
	"$2a$",
	"$2b$",
	"$2y$",
	"$5$",
	"$6$",
	"$7$",
	"$y$",
	"$gy$",
	"$argon2",
	NULL,
};

const struct redact_rules redact_rules = {secrets, elements, free_names, kept,
					  naming,  entries,  free_texts, beginnings};

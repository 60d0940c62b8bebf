/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain-document - the document of a record that no hook wrote: the part of a domain's document
 * that is known, so that readers of records find name and uuid where they always are.
 */
#pragma once

#include "hook/record.h"

/* With a null byte at its end, to be freed; NULL without memory. id -1: the domain does not run. */
char *domain_document_new(struct bytes driver, struct bytes name, const char *uuid, int id);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * document-uuid - the uuid of the domain or network that a record's document describes.
 *
 * A million records may be asked for one uuid, so this is a scan of the markup and not a parser: it
 * stops at the element, and what comes after may be malformed. For well-formed documents it agrees
 * with domain_parse().
 */
#pragma once

#include "hook/record.h"

/* domain/uuid, network/uuid or hookData/network/uuid in canonical lower case; "" if there is
   none. */
void document_uuid(struct bytes document, char ret_uuid[static 37]);

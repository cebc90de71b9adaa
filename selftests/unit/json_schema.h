/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does a JSON value match a schema? The part of JSON Schema that our documents use: type (one or a
 * list), enum, const, minimum, maximum, minLength, maxLength, pattern, minItems, maxItems,
 * properties, required, additionalProperties, items, $ref within the document, oneOf, anyOf, allOf.
 * A keyword that is not known is an error, so nothing is checked by half.
 */
#ifndef GFS_UNIT_JSON_SCHEMA_H
#define GFS_UNIT_JSON_SCHEMA_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

/* doc: what $ref refers to. False with where and why in err. */
bool json_schema_ok(struct json_object *doc, struct json_object *schema, struct json_object *value,
		    char *err, size_t len);
/* "#/a/b" in doc, NULL if it is not there. */
struct json_object *json_schema_ref(struct json_object *doc, const char *ref);

#endif

/* Values that hold several fields: `gi=1 ci=0 profile=1g.10gb start=0`. */
#ifndef SIM_FIELDS_H
#define SIM_FIELDS_H

#include <stdbool.h>

/* Copy the field's text; false if it is not there or too long. */
bool sim_field(const char *value, const char *name, char *out, unsigned int length);
/* The field as a number, `fallback` if it is not there or not a number. */
unsigned long long sim_field_number(const char *value, const char *name, unsigned long long fallback);

#endif

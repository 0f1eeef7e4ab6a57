/* Values that hold several fields, separated by blanks. */
#include "fields.h"

#include <string.h>

#include "sim.h"

bool sim_field(const char *value, const char *name, char *out, unsigned int length) {
    size_t width = strlen(name);
    for (const char *at = value; at && *at;) {
        size_t word = strcspn(at, " \t");
        if (word > width && !strncmp(at, name, width) && at[width] == '=') {
            size_t size = word - width - 1;
            if (size >= length) return false;
            memcpy(out, at + width + 1, size);
            out[size] = '\0';
            return true;
        }
        at += word;
        at += strspn(at, " \t");
    }
    return false;
}

unsigned long long sim_field_number(const char *value, const char *name, unsigned long long fallback) {
    char text[64];
    unsigned long long number;
    return sim_field(value, name, text, sizeof text) && sim_number(text, &number) ? number : fallback;
}

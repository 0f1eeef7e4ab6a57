/* The state file: `[section]` lines, `key = value` lines, `#` comments. Keys may repeat (links, instances, processes). */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fields.h"
#include "sim.h"

#define UNSEEN_NS 1000000 /* how long a change may go unnoticed that was not counted in the file `generation` */

static struct sim_state current;
static bool readable;
static struct stat seen;
static unsigned int checks;
static long long checked_ns;
static const volatile uint64_t *generation; /* what nvmlsim.py counts up after each change; NULL: there is no file */
static uint64_t seen_generation;

const char *sim_state_path(void) {
    const char *path = getenv("NVML_SIM_STATE");
    return path && *path ? path : "/etc/nvml-sim/state";
}

unsigned int sim_state_checks(void) { return checks; }

static void clear(struct sim_state *state) {
    for (int i = 0; i < state->count; i++) {
        struct sim_section *section = &state->sections[i];
        for (int j = 0; j < section->count; j++) {
            free(section->pairs[j].key);
            free(section->pairs[j].value);
        }
        free(section->pairs);
        free(section->index);
        free(section->name);
    }
    free(state->sections);
    free(state->told);
    memset(state, 0, sizeof *state);
}

static char *trim(char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) *--end = '\0';
    return text;
}

static bool add_section(struct sim_state *state, const char *name) {
    struct sim_section *grown = realloc(state->sections, (state->count + 1) * sizeof *grown);
    if (!grown) return false;
    state->sections = grown;
    grown[state->count] = (struct sim_section){.name = strdup(name)};
    state->count++;
    return true;
}

static bool add_pair(struct sim_section *section, const char *key, const char *value) {
    struct sim_pair *grown = realloc(section->pairs, (section->count + 1) * sizeof *grown);
    if (!grown) return false;
    section->pairs = grown;
    grown[section->count++] = (struct sim_pair){.key = strdup(key), .value = strdup(value)};
    return true;
}

static bool add_line(struct sim_state *state, char *line) {
    if (!*line || *line == '#') return true;
    size_t length = strlen(line);
    if (*line == '[') {
        if (line[length - 1] != ']') return false;
        line[length - 1] = '\0';
        return add_section(state, trim(line + 1));
    }
    char *equals = strchr(line, '=');
    if (!equals || state->count == 0) return false;
    *equals = '\0';
    return add_pair(&state->sections[state->count - 1], trim(line), trim(equals + 1));
}

/* Where a key is in the index, or would be (FNV-1a). */
static unsigned int slot_of(const struct sim_section *section, const char *key) {
    unsigned int hash = 2166136261u;
    for (const char *at = key; *at; at++) hash = (hash ^ (unsigned char)*at) * 16777619u;
    for (unsigned int slot = hash & (section->slots - 1);; slot = (slot + 1) & (section->slots - 1))
        if (!section->index[2 * slot] || !strcmp(section->index[2 * slot], key)) return slot;
}

static bool index_section(struct sim_section *section) {
    for (section->slots = 8; section->slots < 2 * (unsigned int)section->count;) section->slots *= 2;
    section->index = calloc(2 * section->slots, sizeof *section->index);
    if (!section->index) return false;
    for (int i = 0; i < section->count; i++) {
        const struct sim_pair *pair = &section->pairs[i];
        unsigned int slot = slot_of(section, pair->key);
        if (!strcmp(pair->key, "link")) {
            unsigned long long id = sim_field_number(pair->value, "id", SIM_MAX_LINKS);
            if (id < SIM_MAX_LINKS && !section->links[id]) section->links[id] = pair->value;
        }
        if (section->index[2 * slot]) continue;
        section->index[2 * slot] = pair->key;
        section->index[2 * slot + 1] = pair->value;
    }
    return true;
}

static bool index_sections(struct sim_state *state) {
    for (int i = 0; i < state->count; i++) {
        struct sim_section *section = &state->sections[i];
        int gpu, end = 0;
        if (!index_section(section)) return false;
        if (!strcmp(section->name, "system")) state->system = section;
        else if (!strcmp(section->name, "topology")) state->topology = section;
        else if (!strcmp(section->name, "faults")) state->faults = section;
        else if (sscanf(section->name, "gpu %d%n", &gpu, &end) == 1 && !section->name[end] && gpu >= 0 &&
                 gpu < SIM_MAX_GPUS)
            state->gpus[gpu] = section;
    }
    return true;
}

static bool parse(FILE *file, struct sim_state *state) {
    char *line = NULL;
    size_t size = 0;
    int number = 0;
    bool good = true;
    while (good && getline(&line, &size, file) >= 0) {
        number++;
        if (!add_line(state, trim(line))) {
            fprintf(stderr, "nvml-sim: %s:%d: want [section], key = value or # comment\n", sim_state_path(), number);
            good = false;
        }
    }
    free(line);
    good = good && index_sections(state); /* only now: sections move while the array grows */
    return good && state->system && sim_faults_read(state);
}

static bool unchanged(const struct stat *now) {
    return readable && now->st_ino == seen.st_ino && now->st_dev == seen.st_dev && now->st_size == seen.st_size &&
           now->st_mtim.tv_sec == seen.st_mtim.tv_sec && now->st_mtim.tv_nsec == seen.st_mtim.tv_nsec;
}

/* In the state's folder; a mapping that is there already is replaced, for the file may be another one. */
static void map_generation(void) {
    char copy[PATH_MAX], path[PATH_MAX + 16];
    struct stat size;
    if (generation) munmap((void *)generation, sizeof *generation);
    generation = NULL;
    snprintf(copy, sizeof copy, "%s", sim_state_path());
    snprintf(path, sizeof path, "%s/generation", dirname(copy));
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *map = MAP_FAILED;
    if (fstat(file, &size) == 0 && size.st_size >= (off_t)sizeof *generation)
        map = mmap(NULL, sizeof *generation, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) generation = map;
}

static long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Most calls end here, without a call of the system. */
static bool just_checked(void) {
    return readable && generation && *generation == seen_generation && now_ns() - checked_ns < UNSEEN_NS;
}

static const struct sim_state *unreadable(void) {
    readable = false;
    return NULL;
}

const struct sim_state *sim_state_refresh(void) {
    struct stat now;
    if (just_checked()) return &current;
    checks++;
    checked_ns = now_ns();
    bool counted = generation && *generation != seen_generation;
    if (generation) seen_generation = *generation; /* before the file is read: what comes later is seen later */
    if (stat(sim_state_path(), &now) != 0) return unreadable();
    if (unchanged(&now)) return &current;
    if (!counted) {
        map_generation();
        if (generation) seen_generation = *generation;
    }
    FILE *file = fopen(sim_state_path(), "re");
    if (!file) return unreadable();
    struct sim_state next = {0};
    bool good = fstat(fileno(file), &now) == 0 && parse(file, &next);
    fclose(file);
    if (good) sim_faults_keep(&next, &current);
    clear(good ? &current : &next);
    if (!good) return unreadable();
    readable = true;
    current = next;
    seen = now;
    return &current;
}

const char *sim_value(const struct sim_section *section, const char *key) {
    return section ? section->index[2 * slot_of(section, key) + 1] : NULL;
}

bool sim_flag(const struct sim_section *section, const char *key, bool fallback) {
    const char *value = sim_value(section, key);
    if (!value) return fallback;
    return !strcmp(value, "on") || !strcmp(value, "yes") || !strcmp(value, "1");
}

bool sim_number(const char *text, unsigned long long *out) {
    if (!text || !isdigit((unsigned char)*text)) return false;
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    return errno == 0 && *end == '\0';
}

#ifndef MARTLET_CSQLITE_SHIM_H
#define MARTLET_CSQLITE_SHIM_H
#include <sqlite3.h>

/* SQLITE_TRANSIENT and SQLITE_STATIC are casts, which Swift does not import. */
static inline int martlet_bind_text_copy(sqlite3_stmt *s, int i, const char *text, int count) {
    return sqlite3_bind_text(s, i, text, count, SQLITE_TRANSIENT);
}
/* The bytes must stay where they are until the statement was stepped and reset. */
static inline int martlet_bind_blob_static(sqlite3_stmt *s, int i, const void *bytes, int count) {
    return sqlite3_bind_blob(s, i, bytes, count, SQLITE_STATIC);
}
/* sqlite3_config is variadic. Must run before the first connection: statistics cost a lock per allocation. */
static inline int martlet_sqlite_quiet(void) { return sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }

/* A file of a VFS that is written in Swift: SQLite allocates it, `object` is the Swift object behind it. */
typedef struct martlet_sqlite_file {
    sqlite3_file base;
    void *object;
} martlet_sqlite_file;
#endif

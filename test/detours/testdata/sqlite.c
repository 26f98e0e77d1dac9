// Runs the SQL on standard input, statement by statement, and prints what comes
// of it: rows, or the error.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sqlite3-binding.h"

static void twice(sqlite3_context *c, int n, sqlite3_value **v)
{
	sqlite3_result_int64(c, 2 * sqlite3_value_int64(v[0]));
}

struct product { int any; double p; };

static void step(sqlite3_context *c, int n, sqlite3_value **v)
{
	struct product *p = sqlite3_aggregate_context(c, sizeof *p);
	p->p = (p->any ? p->p : 1) * sqlite3_value_double(v[0]);
	p->any = 1;
}

static void final(sqlite3_context *c)
{
	struct product *p = sqlite3_aggregate_context(c, 0);
	sqlite3_result_double(c, p && p->any ? p->p : 1);
}

static int backwards(void *p, int n, const void *a, int m, const void *b)
{
	int r = memcmp(b, a, n < m ? n : m);
	return r ? r : m - n;
}

static int row(void *p, int n, char **v, char **names)
{
	for (int i = 0; i < n; i++)
		printf("%s%s", i ? "|" : "", v[i] ? v[i] : "NULL");
	putchar('\n');
	return 0;
}

int main(int argc, char **argv)
{
	static char text[1 << 20];
	size_t n = fread(text, 1, sizeof text - 1, stdin);
	sqlite3 *db, *copy;
	char *error;
	text[n] = 0;
	if (sqlite3_open(argv[1], &db) || sqlite3_open(":memory:", &copy))
		return 3;
	sqlite3_create_function(db, "twice", 1, SQLITE_UTF8, 0, twice, 0, 0);
	sqlite3_create_function(db, "product", 1, SQLITE_UTF16, 0, 0, step, final);
	sqlite3_create_collation(db, "backwards", SQLITE_UTF8, 0, backwards);
	for (char *s = strtok(text, "@"); s; s = strtok(0, "@"))
		if (sqlite3_exec(db, s, row, 0, &error)) {
			printf("error: %s\n", error);
			sqlite3_free(error);
		}
	sqlite3_backup *b = sqlite3_backup_init(copy, "main", db, "main");
	if (b) {
		sqlite3_backup_step(b, -1);
		sqlite3_backup_finish(b);
		sqlite3_exec(copy, "select count(*), sum(length(sql)) from sqlite_schema", row, 0, 0);
	}
	sqlite3_blob *blob;
	char bytes[8] = {0};
	if (!sqlite3_blob_open(db, "main", "big", "data", 1, 0, &blob)) {
		sqlite3_blob_read(blob, bytes, 7, 10);
		sqlite3_blob_close(blob);
		puts(bytes);
	}
	printf("%d %d\n", sqlite3_close(copy), sqlite3_close(db));
	return 0;
}

/* Database drivers. */
#include "kr_shim.h"

int kr_db_bind(str *url, db_func_t *functions)
{
	return db_bind_mod(url, functions);
}

extern unsigned int sql_buffer_size;

unsigned int kr_db_statement_size(void)
{
	return sql_buffer_size;
}

int kr_db_table_version(db_func_t *functions, db1_con_t *con, str *table, unsigned int version)
{
	return db_check_table_version(functions, con, table, version);
}

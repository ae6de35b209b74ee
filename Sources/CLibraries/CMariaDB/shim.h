#ifndef MARTLET_CMARIADB_SHIM_H
#define MARTLET_CMARIADB_SHIM_H
#include <mariadb/mysql.h>
#include <mariadb/errmsg.h>
#include <mariadb/mysqld_error.h>
#endif

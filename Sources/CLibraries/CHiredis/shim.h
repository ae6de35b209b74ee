#ifndef MARTLET_CHIREDIS_SHIM_H
#define MARTLET_CHIREDIS_SHIM_H
/* Formatting and parsing only: connections are SwiftNIO's. */
#include <hiredis/hiredis.h>
#include <hiredis/read.h>
#endif

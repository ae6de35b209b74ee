#ifndef MARTLET_CEPOLL_SHIM_H
#define MARTLET_CEPOLL_SHIM_H
/* Linux readiness notification, epoll(7), which Swift's Glibc module leaves out. */
#include <sys/epoll.h>
#endif

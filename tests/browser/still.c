/* Keeps a browser from hearing of network interfaces that come and go.
 *
 * Chromium drops every request under way when one does (ERR_NETWORK_CHANGED), and each container on a bridge brings
 * one. It hears of them by netlink, which this library, preloaded, refuses; all the tests' traffic is on loopback.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

int socket(int domain, int type, int protocol)
{
    static int (*real)(int, int, int);
    if (domain == AF_NETLINK) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "socket");
    return real(domain, type, protocol);
}

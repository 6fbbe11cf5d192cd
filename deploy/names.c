/*
 * Linked into the static binary by deploy/build.
 *
 * glibc looks up hosts as /etc/nsswitch.conf says, and loads the libraries that are named there.
 * In a static binary those of another release of glibc end the process (SIGFPE), so that it would
 * not run on most machines: what is built in is all that is asked.
 */
#include <features.h>

#ifdef __GLIBC__
#include <nss.h>

__attribute__((constructor)) static void ask_only_what_is_built_in(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
}
#endif

/* launch SIGNAL PROGRAM [ARGUMENT...]

   Becomes a proxy that has the sockets of the published ports: gets them from listener.py, as file descriptors from 4
   on, names them in the variable NGINX, which nginx looks at, and executes the program. Descriptor 3 is the connection
   to the listener. When that ends, the kernel sends SIGNAL, and the engine starts the proxy anew, with new sockets.
   C, since the image of Caddy has no other language. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST = 16, TRIES = 600, PAUSE = 100000 /* microseconds; a minute in all */ };

static int fail(const char *why)
{
    fprintf(stderr, "launch: %s\n", why);
    return EXIT_FAILURE;
}

static int connected(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/listener/socket" };
    for (int i = 0; i < TRIES; i++, usleep(PAUSE)) {
        int listener = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(listener, (struct sockaddr *)&address, sizeof address) == 0)
            return listener;
        close(listener);
    }
    return -1;
}

/* Writes the descriptors that arrive, "4;5;6;7;", into names. Returns how many there are. */
static int receive(int listener, char *names)
{
    union { char bytes[CMSG_SPACE(MOST * sizeof(int))]; struct cmsghdr align; } control;
    struct iovec data = { .iov_base = &(char){ 0 }, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    if (recvmsg(listener, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == NULL)
        return 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (int i = 0; i < count; i++)
        names += sprintf(names, "%d;", ((int *)CMSG_DATA(header))[i]);
    return count;
}

int main(int argc, char **argv)
{
    char names[MOST * 12] = "";
    if (argc < 3)
        return fail("usage: launch SIGNAL PROGRAM [ARGUMENT...]");
    int listener = connected();
    if (listener < 0)
        return fail("no listener answers: start it with docker compose up -d listener");
    if (receive(listener, names) == 0)
        return fail("the listener has ended");
    setenv("NGINX", names, 1);

    /* Blocked until the proxy handles it: process 1 would lose a signal that came before. */
    int end = atoi(argv[1]);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, end);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    fcntl(listener, F_SETOWN, getpid());
    fcntl(listener, F_SETSIG, end);
    fcntl(listener, F_SETFL, O_ASYNC);
    if (poll(&(struct pollfd){ .fd = listener, .events = POLLIN }, 1, 0) != 0)
        return fail("the listener has ended");
    execvp(argv[2], argv + 2);
    return fail("the proxy can't be executed");
}

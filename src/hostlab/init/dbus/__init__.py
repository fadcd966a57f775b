"""Message buses: a connection that comes back, signals as events, the init as com.ubuntu.Upstart.

Nothing of this is imported before a job listens to a bus or an init answers on one. The library is
dbus-fast (`hostlab[dbus]`).
"""

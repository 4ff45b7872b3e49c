from chassis.dev import supervisor

supervisor.main()

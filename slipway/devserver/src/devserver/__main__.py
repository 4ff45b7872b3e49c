from devserver import supervisor

supervisor.main()
